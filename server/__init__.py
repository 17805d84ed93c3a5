"""The hub: policy, approvals, releases and the record of a fleet of agents."""
