"""Evaluation of proposers: validity before relaxation, S.U.N. after it."""
