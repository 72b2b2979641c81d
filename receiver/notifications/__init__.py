"""Messages to the user's application: sending them, sending them again, and showing what became of them."""
