"""A zoo of published architectures, converted by every route: is each convolution kernel found again, and equal?"""
