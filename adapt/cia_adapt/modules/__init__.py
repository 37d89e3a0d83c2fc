"""What several parts share: features of maps, gradient reversal, layers, contrastive losses."""
