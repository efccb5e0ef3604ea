"""Augmentation: random changes of training items, drawn for an epoch and made batch by batch on the device."""
