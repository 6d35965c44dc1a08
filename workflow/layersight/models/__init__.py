"""Vision encoders, connectors, language models, and the assembled vision-language model."""
