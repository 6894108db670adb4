"""Attribution with a measured truth."""
