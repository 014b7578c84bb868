"""From an AWS account to a model that answers: `friend deploy`, `status`, `warm`, `destroy`.

Start at `deployment.deploy`. No state is kept on this machine: each run looks at what AWS has, and
does what is missing.
"""
