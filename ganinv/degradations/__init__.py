"""What takes quality away from images: rain, strokes, down-sampling, noise, JPEG, grey, blur; for trainings on pairs or on two
domains."""
