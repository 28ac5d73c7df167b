"""Reports: one versioned document, rendered for people and for machines."""
