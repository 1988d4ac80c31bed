"""Files that earlier versions wrote, and the promise that they are still read the same."""
