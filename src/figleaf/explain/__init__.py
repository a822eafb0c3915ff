"""What a network looks at: the inputs its filters want, their activations of a picture, class activation maps."""
