"""The command line `reid-lab`: one tree of subcommands, a module each."""
