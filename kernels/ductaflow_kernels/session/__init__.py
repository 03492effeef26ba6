"""One kernel that runs.

Owns its requests and messages, and the observer that notes which files it uses. Imports
`processes`.
"""
