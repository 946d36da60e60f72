import csv

with open("dataset.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["n", "square"])
    writer.writerows([n, n * n] for n in range(10))
