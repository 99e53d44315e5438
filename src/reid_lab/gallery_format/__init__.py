"""A saved gallery's files; numpy alone, shared by gallery, runtime and service."""
