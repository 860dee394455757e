"""The web demo. `tabs` does what the tabs show, `page` draws them with Gradio, `server` serves the page."""
