"""What other libraries have a place of their own for; each module needs its library."""
