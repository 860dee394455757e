"""The command `kovilt`: a module a verb, and what they share: arguments, progress, the check of the environment."""
