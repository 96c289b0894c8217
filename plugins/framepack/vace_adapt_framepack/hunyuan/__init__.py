"""Backend ``hunyuan``: FramePack as released, on HunyuanVideo."""
