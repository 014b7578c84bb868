"""What friend decides and says, free of platform types, sockets and SQL."""
