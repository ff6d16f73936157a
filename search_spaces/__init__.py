"""What can be built: decisions, sites, supernets and the networks cut from them. Imports torch only."""
