"""What is measured, and for which command.

evaluate   comparison, comparison_report, cases; its judges: features, frechet, style, text_image, sketch_following, ...
compare    own_cases/
sweep      sweeps, card
bench      bench/, klein_bench/
beside it  costs, a file of the tests; service_timing, `make bench-service`
"""
