"""What an operator asks and does: the home, operations, events, status, and the API that offers them."""
