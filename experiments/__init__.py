"""Studies and recipes. They import trimtab; nothing imports them."""
