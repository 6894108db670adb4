"""Learned selection: how useful will a pair be, judged by its cached features alone?"""
