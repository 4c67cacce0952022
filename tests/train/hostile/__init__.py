"""Files that were made to harm whoever reads them, in a process of bounded memory."""
