"""The HTTP service: answers questions about images over HTTP, also in the format of OpenAI's chat API."""
