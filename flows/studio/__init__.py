"""The studio: inversions looked at and edited in a browser. ``ganinv studio``.

``shelf`` is what a store has, ``subject`` an inversion and its edits, ``upload`` a photo that came, ``saving`` what is written;
``page`` alone knows Gradio, and ``serving`` who may reach it.
"""
