"""The networks: context encoder, lazy decoder, codecs and the prompt's encoder."""
