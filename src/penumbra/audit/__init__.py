"""Following each displayed number to its bytes, and proving that nothing on the way was changed."""
