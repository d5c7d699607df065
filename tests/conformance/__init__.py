"""One suite, over every transport, on both loops, for both kinds of handler."""
