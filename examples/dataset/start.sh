#!/bin/bash
set -e
echo "Generating dataset..."
[ -s dataset.csv ] || python generate_data.py

echo "Starting application..."
python main.py
