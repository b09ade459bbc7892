"""The client side of the pipeline: stage 0, where prompts come in and text goes out."""
