"""The command `ductaflow`: one file a command, each imported when it is asked for."""
