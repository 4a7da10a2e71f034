"""The mathematics that methods share: arrays in, one value per prediction out, never reduced."""
