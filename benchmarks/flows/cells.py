# %% [markdown]
# # A hundred small cells, half of them with an output

# %% tags=["parameters"]
# ruff: noqa: D100
config = {"seed": 0}

# %%
total = config["seed"]

# %%
print("total after 2 cells:", total + 2)

# %%
total += 3

# %%
print("total after 4 cells:", total + 4)

# %%
total += 5

# %%
print("total after 6 cells:", total + 6)

# %%
total += 7

# %%
print("total after 8 cells:", total + 8)

# %%
total += 9

# %%
print("total after 10 cells:", total + 10)

# %%
total += 11

# %%
print("total after 12 cells:", total + 12)

# %%
total += 13

# %%
print("total after 14 cells:", total + 14)

# %%
total += 15

# %%
print("total after 16 cells:", total + 16)

# %%
total += 17

# %%
print("total after 18 cells:", total + 18)

# %%
total += 19

# %%
print("total after 20 cells:", total + 20)

# %%
total += 21

# %%
print("total after 22 cells:", total + 22)

# %%
total += 23

# %%
print("total after 24 cells:", total + 24)

# %%
total += 25

# %%
print("total after 26 cells:", total + 26)

# %%
total += 27

# %%
print("total after 28 cells:", total + 28)

# %%
total += 29

# %%
print("total after 30 cells:", total + 30)

# %%
total += 31

# %%
print("total after 32 cells:", total + 32)

# %%
total += 33

# %%
print("total after 34 cells:", total + 34)

# %%
total += 35

# %%
print("total after 36 cells:", total + 36)

# %%
total += 37

# %%
print("total after 38 cells:", total + 38)

# %%
total += 39

# %%
print("total after 40 cells:", total + 40)

# %%
total += 41

# %%
print("total after 42 cells:", total + 42)

# %%
total += 43

# %%
print("total after 44 cells:", total + 44)

# %%
total += 45

# %%
print("total after 46 cells:", total + 46)

# %%
total += 47

# %%
print("total after 48 cells:", total + 48)

# %%
total += 49

# %%
print("total after 50 cells:", total + 50)

# %%
total += 51

# %%
print("total after 52 cells:", total + 52)

# %%
total += 53

# %%
print("total after 54 cells:", total + 54)

# %%
total += 55

# %%
print("total after 56 cells:", total + 56)

# %%
total += 57

# %%
print("total after 58 cells:", total + 58)

# %%
total += 59

# %%
print("total after 60 cells:", total + 60)

# %%
total += 61

# %%
print("total after 62 cells:", total + 62)

# %%
total += 63

# %%
print("total after 64 cells:", total + 64)

# %%
total += 65

# %%
print("total after 66 cells:", total + 66)

# %%
total += 67

# %%
print("total after 68 cells:", total + 68)

# %%
total += 69

# %%
print("total after 70 cells:", total + 70)

# %%
total += 71

# %%
print("total after 72 cells:", total + 72)

# %%
total += 73

# %%
print("total after 74 cells:", total + 74)

# %%
total += 75

# %%
print("total after 76 cells:", total + 76)

# %%
total += 77

# %%
print("total after 78 cells:", total + 78)

# %%
total += 79

# %%
print("total after 80 cells:", total + 80)

# %%
total += 81

# %%
print("total after 82 cells:", total + 82)

# %%
total += 83

# %%
print("total after 84 cells:", total + 84)

# %%
total += 85

# %%
print("total after 86 cells:", total + 86)

# %%
total += 87

# %%
print("total after 88 cells:", total + 88)

# %%
total += 89

# %%
print("total after 90 cells:", total + 90)

# %%
total += 91

# %%
print("total after 92 cells:", total + 92)

# %%
total += 93

# %%
print("total after 94 cells:", total + 94)

# %%
total += 95

# %%
print("total after 96 cells:", total + 96)

# %%
total += 97

# %%
print("total after 98 cells:", total + 98)

# %%
total += 99

# %%
print("total after 100 cells:", total + 100)
