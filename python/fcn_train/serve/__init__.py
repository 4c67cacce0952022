"""`fcn serve`: a page that shows what a network makes of pictures."""
