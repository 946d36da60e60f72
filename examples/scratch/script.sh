#!/bin/sh
echo "made by a script"
