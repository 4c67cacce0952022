"""`fcn serve`: a page that shows a network's predictions for pictures."""
