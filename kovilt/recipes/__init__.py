"""Commands of kovilt as resumable steps, and the steps and results of `kovilt quickstart`."""
