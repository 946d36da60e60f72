import json

import flask

print("flask", flask.__version__)
print("is-number", json.load(open("/app/node_modules/is-number/package.json"))["version"])
