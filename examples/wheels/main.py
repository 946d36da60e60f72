import fastsum

print("sum:", fastsum.sum_to(1000))
