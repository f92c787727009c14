"""The operators that the API's methods stand for, one family a file."""
