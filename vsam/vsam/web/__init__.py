"""`vsam web`: a page that tags photos, shows where the model looked, and filters a folder's tags.

Only `server`, `page`, `gallery_tab`, `uploads` and `look` import Gradio.
"""
