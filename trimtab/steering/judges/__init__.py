"""Does a reply show the behaviour? Judges are interchangeable, one file each."""
