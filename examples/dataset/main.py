import csv

with open("dataset.csv", newline="") as file:
    rows = list(csv.DictReader(file))
print("rows:", len(rows), "last:", rows[-1]["square"])
