"""Sensors of two kinds: conversion, filter, moving averages, windows, alerts."""
