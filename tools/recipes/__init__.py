"""The two recipes that chain kovilt's tools, and what runs them: `quickstart` and `reproduce`."""
