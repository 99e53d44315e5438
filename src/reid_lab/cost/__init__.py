"""What an exit costs: multiply-adds, time, memory and energy."""
