"""A visitor at a running job: a kernel for frontends, in front of the job's own, which it leaves in peace."""
