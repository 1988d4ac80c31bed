"""What is computed: the plan as a document, and the program that the kernel runs."""
