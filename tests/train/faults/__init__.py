"""A whole run of the program on a disk that refuses, or kills, the k-th write of all."""
