"""What happens at its time: commands that were put off, and the runs of cron schedules."""
