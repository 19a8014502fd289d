"""A nudge for each exercise, asked for with ``checks.hint("02.3")``: what to look at, and not how it is done."""

HINTS = {
    "00.1": "Build each from the word lists above: shape, colour and motion. Then see that no motion comes twice.",
    "00.2": (
        "Start with what you type and what is drawn at random; end with what you watch. Which part is needed only"
        " while the model is trained?"
    ),
    "00.3": "Ask whose word it is: OpenAI's report or card, the papers that it cites, or nobody's.",
    "00.4": (
        "In the first game every slip of a pile says the same; in the second a pile holds six different roles. "
        "How many ways are there to have each role once?"
    ),
    "01.1": "Try one pixel: from where to where do the pixel and the interval overlap? What if they do not meet?",
    "01.2": (
        "Steady and falling paths both go down. What of their *steps* differs, and how do you look at it through "
        "a wobble that is as large as a step changes?"
    ),
    "01.3": (
        "x grows by the same amount every tick. y begins upwards, which is negative, and is pulled back. For the "
        "caption, mind a vowel."
    ),
    "01.4": (
        "Multiply the three lengths. Then count each table's cells for all values of the axis that it does not "
        "have, and look for cells that both tables hold out."
    ),
    "01.5": (
        "Turn frames into ticks and pixels into units before you fit anything: what are the times of the frames, "
        "and how long is a pixel?"
    ),
    "01.6": (
        "The interval is a number of standard errors to each side. For the second part, turn the formula round: n"
        " from the half width."
    ),
    "02.1": "How many patches stand in a row? Then divide: what do quotient and remainder tell?",
    "02.2": (
        "Draw the 4 x 4 table and cut it with two lines. Which square is read second, and in which order are its "
        "four numbers read?"
    ),
    "02.3": "Cut h into two axes and w into two. You then have six axes: write their order down before and after.",
    "02.4": (
        "Do exercise 02.3 backwards: how many axes does a token fall into, and where do they belong in the picture?"
    ),
    "02.5": "For the last number: where does the last patch start, if it has to end inside the picture?",
    "02.6": "Tokens times numbers in each, over the numbers in the picture. You know all of them already.",
    "03.1": "Lesson 02's line, with a third axis: what stands in front of nh, and what in front of ph?",
    "03.2": "Count the boxes along each axis, and multiply. Do colours or channels make more boxes?",
    "03.3": "Which of the 16 frames are in a flat token at all? And in how many layers of boxes is one frame?",
    "03.4": "From one moment to the next, how far apart in the row do tokens of the same place stand?",
    "03.5": (
        "Write down the first frame of every box. Where must the last one start? Then tick those that hold frame "
        "0, and those that hold frame 7."
    ),
    "03.6": "How many tokens go in each time? Does the layer know anything else of them?",
    "04.1": "Four moves: score, scale, hide, mix. What must a forbidden score be, so that softmax makes 0 of it?",
    "04.2": (
        "Cut x into its two halves, a and b; each pair then has one angle. For the second part: what does a "
        "rotary score depend on?"
    ),
    "04.3": (
        "y[i] is about the token that stood at order[i]: where does it go? For the predictions ask which sets of "
        "(token, place) stay the same."
    ),
    "04.4": (
        "Count the tokens of one frame and the tokens of one column first. Then: tokens times how many each of "
        "them looks at."
    ),
    "04.5": "Write both counts with n and d: the table above has them. What cancels?",
    "04.6": (
        "log cost = log c + p log n is a straight line: what of it is p? For windows, ask how many keys each "
        "query has when the clip is longer."
    ),
    "04.7": (
        "Write out the frame of each of the first 20 tokens, as the bug has it and as the row really runs. Which "
        "axis is the slowest?"
    ),
    "05.1": "Multiply the axes of each. For the last one: does cutting into patches drop or repeat any number?",
    "05.2": "Put the two averages that the text asks for into log q - log p, and write var as exp(logvar).",
    "05.3": "Each of the three has its own curve: which is best at its highest, and which says nothing at zero?",
    "05.4": "How many frames must stand in front so that the first window ends at frame 0? And how many behind?",
    "05.5": (
        "Over which axes do you average, so that one number for each channel is left? Keep the axes, so that it "
        "broadcasts."
    ),
    "05.6": (
        "Run the tracker and count rows. For the second: which part sees noise, and which only ever saw latents "
        "of real clips?"
    ),
    "05.7": ("Try it with 3 pairs and letters for frames: ab cd ef. What does (two f) make of them, and what (f two)?"),
    "06.1": (
        "Look alpha_bar up at step 500 (counted from 1). What are the factors of x_0 and of eps, and what is the "
        "variance of each?"
    ),
    "06.2": (
        "Print the shapes of alpha_bar[s - 1] and of x_0. What has to happen to the first so that each sample "
        "gets one number?"
    ),
    "06.3": "What does noise do to the finest waves, and what does blur do to them? Compare after with before.",
    "06.4": "Compute snr for the whole table, and find the first place where it is at most 1. Does s begin at 0?",
    "06.5": "The factor is a root. The mean of the picture is multiplied by it; in which unit is it to be measured?",
    "06.6": (
        "Variance goes with the square of the standard deviation. Then the question of exercise 06.4, with a "
        "larger SNR."
    ),
    "06.7": ("How many normal numbers are drawn for a clip, and how many numbers does the clip have?"),
    "07.1": "x_t = (1 - t) x_0 + t eps has one unknown. And what is the velocity of a straight line from x_0 to eps?",
    "07.2": "Which number is nearest to all of them, in squares? The error is what is left at that number.",
    "07.3": (
        "Take the times in neighbouring pairs. Where are you when you ask, and how far do you go, in which direction?"
    ),
    "07.4": "What is their tau at our time t? And what does a velocity do when the clock runs the other way?",
    "07.5": (
        "From pure noise the best guess is a mean: of what? For the factors: how does the error of each method "
        "fall with the number of steps?"
    ),
    "07.6": "Express eps and the velocity by x_t and x_0. By what is a mistake in x_0 multiplied in each?",
    "07.7": (
        "Solve the closed form for x_0. Then you have x_0 and eps: what does the closed form make of them at another "
        "step?"
    ),
    "07.8": (
        "A velocity function is asked for a place and a time. Go through both calls, and say of each where the sample "
        "is and what time it is there."
    ),
    "08.1": (
        "Say one sentence twice: norm, scale and shift, do something, gate, add. Which three of the six belong to"
        " which?"
    ),
    "08.2": "Differentiate x + gate * y at gate = 0, once by the gate and once by y.",
    "08.3": "Go through the table row by row; a linear layer has a bias. What in it depends on the patch?",
    "08.4": (
        "Layers that each of the n tokens passes, layers that c passes once, and the two products of attention, n"
        " times n."
    ),
    "08.5": "One picture takes the passes of all its steps; mind the units. Then compare the last column.",
    "08.6": (
        "Do an experiment: change one token, run again, compare. Which axis has to be joined to one answer a token?"
    ),
    "08.7": ("Differentiate gate * branch by each of its factors, at the start. Is one of the two gradients not zero?"),
    "09.1": (
        "What stands first in every caption? What stands for a word that is not in the table? And what happens to"
        " a row that is too long, or too short?"
    ),
    "09.2": "One decision a caption, for all of its words: which shape must u < share have?",
    "09.3": "Put s = 0 and s = 1 into the formula. Then count how often the model is asked in one guided step.",
    "09.4": "Stack everything twice, ask once, cut in two. Which half did you stack first?",
    "09.5": "Where in the table does a clip meet its own prompt? The floor is made of everything else.",
    "09.6": "Distances from what? Average the squares of both coordinates together, not each alone.",
    "09.7": (
        "Take exercise 07.3's loop, and put into it what exercise 09.4 does. What stands in the place of the empty "
        "caption?"
    ),
    "09.8": (
        "How many of the vectors in a row are words? And which of them should count above the line, and which below it?"
    ),
    "10.1": "Take the gradient apart, and put it together again with other numbers in the middle.",
    "10.2": "Six things happen. Which must come before the optimiser moves, and which after it?",
    "10.3": (
        "You know x_0: it is the example. What is the velocity of the line through x_t, and is anything left to guess?"
    ),
    "10.4": "Go through the list: what of the four would start anew if you left it out?",
    "10.5": "Go through all pairs. Which of them count, and when do the two rankings agree on one?",
    "10.6": (
        "Look at the first loss, at where the curve stops, and at the samples: each fault shows in another of the"
        " three."
    ),
}
