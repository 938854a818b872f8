//! 3. One chapter for each thing that makes a container. Chapters do not import one another.
